SELECT revision, next_place, compacted, swept FROM marks WHERE one = 1
