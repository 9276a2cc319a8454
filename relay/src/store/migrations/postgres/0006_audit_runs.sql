-- The run of the relay that the client asked, so that each run's share of the last hour is known.
ALTER TABLE audit ADD COLUMN run TEXT COLLATE "C";
