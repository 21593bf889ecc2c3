"""The cellar: what a batch is and what is allowed in it. No IO, no clock, no chance, no await."""
