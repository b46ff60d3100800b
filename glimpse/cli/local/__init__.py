"""`glimpse up`: the whole stack on one machine. It runs from a checkout: no part of the wheel."""
