"""Which recipe of adapters transfers best from task to task, before a whole bank is trained with it."""
