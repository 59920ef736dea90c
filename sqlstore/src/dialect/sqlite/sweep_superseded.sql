-- What a change of the window has superseded: at most one row each, found by index.
DELETE FROM history WHERE place IN (
    SELECT older.place
    FROM history AS newer CROSS JOIN history AS older INDEXED BY history_by_key
        ON older.key = newer.key AND older.place < newer.place
    WHERE newer.place > ?1 AND newer.place <= ?2
)
