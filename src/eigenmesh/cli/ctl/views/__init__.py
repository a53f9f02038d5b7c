"""What the API answers, as people read it: messages in, rich renderables out."""
