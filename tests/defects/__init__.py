"""Small defects, put into a copy of the code one at a time: what they cost, and whether the gate sees them."""
