"""Candidate pools: ranked lists united, capped, in seeded order."""
