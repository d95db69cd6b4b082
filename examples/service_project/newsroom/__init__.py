"""A service that writes a briefing about a topic from the news of a day."""
