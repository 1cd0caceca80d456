"""The one error of the prompt engine."""

from typing import Any


class InvalidOptions(Exception):
    """A request that can't be read: the caller's fault, and the same request fails again.

    `details` is JSON: `reason` (one of `wrong_type`, `unknown_field`, `unknown_category`,
    `unknown_option`, `missing_field`, `too_long`, `too_many`, `broken_text`, `not_json`), `where`
    (such as `edits[0].fields.colour`, empty for the request itself), and where names are concerned
    `nearest` and `known`.
    """

    code = "invalid_options"
    retryable = False

    def __init__(self, message: str, *, reason: str, where: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {"reason": reason, "where": where, **details}
