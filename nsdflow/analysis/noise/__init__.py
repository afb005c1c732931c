"""How much of a response is noise: ceilings, reliability, and synthetic noise like the measured one."""
