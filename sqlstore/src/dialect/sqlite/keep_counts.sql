UPDATE marks SET counted = next_place WHERE one = 1
