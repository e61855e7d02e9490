-- Says whose file it is, to us and to file(1): "Quen" in ASCII.
PRAGMA application_id = 1366648174;
