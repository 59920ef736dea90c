DELETE FROM block WHERE start = ?1
