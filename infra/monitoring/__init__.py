"""Monitoring: exporter queries, alert rules and dashboards as files, and the code that renders the configuration."""
