"""The compiler: lowering to operations, rewrites, and the steps and passes that evaluate them."""
