"""OpenSeesPy: structures and soil under static loads and earthquakes."""
