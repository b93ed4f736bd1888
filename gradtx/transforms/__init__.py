"""Building blocks for chains: scaling, momentum, clipping, weight decay, noise, projections and monitoring."""
