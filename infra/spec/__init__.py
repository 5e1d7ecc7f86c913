"""The specification that both targets render. Plain data and text, without Pulumi and without network access."""
