"""Links that are no paper's method: scaling, momentum, clipping, weight decay."""
