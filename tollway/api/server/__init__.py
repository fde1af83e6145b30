"""How the API is served: the application, what guards it, who may call it, and its description."""
