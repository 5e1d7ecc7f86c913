"""Check previews with infra/policy's rules and data-loss guards: read them, apply waivers, and report findings."""
