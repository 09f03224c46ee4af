"""Students of one teacher: each before and after it has learnt."""
