SELECT value FROM history WHERE place = ?1
