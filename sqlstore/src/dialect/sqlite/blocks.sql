SELECT start, keys FROM block ORDER BY start
