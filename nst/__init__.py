"""nst: neural style transfer, from two pictures to a finished one."""
