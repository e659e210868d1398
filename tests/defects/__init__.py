"""Small defects, put into a copy of the code one at a time: what they cost, whether the gate sees them."""
