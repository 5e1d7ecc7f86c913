"""What both targets must render: plain data and text, no Pulumi, no network."""
