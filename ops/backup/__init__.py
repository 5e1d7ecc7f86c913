"""Back up a stack's Postgres, restore it, and verify with drills that a restore works."""
