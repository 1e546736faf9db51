-- An image lies in a build tree until the next trial's takes its place: its path tells nothing later.
UPDATE builds SET image = NULL;
