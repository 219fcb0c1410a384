"""Images and labels: reading, transforms, label spaces, what to run on."""
