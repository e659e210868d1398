"""Pure maths: intervals, controls, paired tests, detection, grouping."""
