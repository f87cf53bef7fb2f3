// Strongroom with the official JavaScript SDK, unmodified. See README.md in the folder above.

import { finish, skipped } from "./checks.js";
import { keys } from "./keys.js";
import { secrets } from "./secrets.js";

if (!skipped.has("keys")) await keys();
if (!skipped.has("secrets")) await secrets();
finish();
