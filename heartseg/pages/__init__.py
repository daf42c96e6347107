"""Pages for people: a scan, its structures and their measurements in one file of HTML."""
