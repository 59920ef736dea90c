SELECT place, revision FROM history WHERE place >= ?1 ORDER BY place LIMIT 1
