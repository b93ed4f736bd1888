"""Links of a chain that do not come from one paper: scaling, momentum, clipping, weight decay, noise, monitoring."""
