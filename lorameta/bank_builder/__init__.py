"""Making banks: from local adapters and datasets, from the Hub, or by training; nothing that only opens a bank."""
