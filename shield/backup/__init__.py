"""The `backup` deadline: hold the arc for as long as some declared manoeuvre can still clear every obstacle."""
