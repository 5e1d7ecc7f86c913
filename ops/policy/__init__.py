"""Judges previews by infra/policy's rules and its firewall: reads them, applies waivers, writes what was found."""
