"""The client's own commands, a module each; `pawqueue.cli` imports one when it is called."""
