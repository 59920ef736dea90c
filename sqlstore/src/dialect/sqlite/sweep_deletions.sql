-- A deletion at the compacted revision itself stays: a watch may begin there.
DELETE FROM history WHERE place > ?1 AND place <= ?2 AND version = 0 AND revision < ?3
