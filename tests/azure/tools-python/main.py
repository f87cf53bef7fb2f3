"""Tools written for Azure Key Vault, unmodified, on Strongroom.

They know no switch for us: the vault has a name below a domain, and the token comes from IDENTITY_ENDPOINT.
"""

import logging

import mongodb
import settings
from checks import finish

# The SDK warns of each public-key operation that it leaves to the service.
logging.getLogger("azure").setLevel(logging.ERROR)

settings.run()
mongodb.run()
finish()
