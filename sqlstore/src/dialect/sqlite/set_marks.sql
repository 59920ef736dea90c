UPDATE marks SET revision = ?1, next_place = ?2, compacted = ?3, swept = ?4 WHERE one = 1
