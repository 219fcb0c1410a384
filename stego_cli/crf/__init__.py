"""Dense conditional random field: sharpens probabilities along the edges of the image."""
