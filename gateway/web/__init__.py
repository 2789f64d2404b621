"""The faces: what HTTP says is turned into Facts and bodies here, and answers back into HTTP."""
