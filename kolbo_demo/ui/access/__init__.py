"""Which API a visitor uses, with which key, and how much of a shared one."""
