-- Says where the samples of a run in a block are, in the order of the columns.
INSERT INTO sample_index VALUES (?, ?, ?, ?, ?)
