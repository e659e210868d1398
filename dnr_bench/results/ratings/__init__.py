"""Rating studies: people judge labels. What they are asked, what they answered, and what follows from it."""
