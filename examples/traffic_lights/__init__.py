"""Traffic-light crops, and a network for them partitioned along its width."""
