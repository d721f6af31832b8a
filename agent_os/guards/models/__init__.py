"""The languages of model providers, as pure translations between their wire forms and one neutral form."""
