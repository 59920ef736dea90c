SELECT counted = next_place FROM marks WHERE one = 1
