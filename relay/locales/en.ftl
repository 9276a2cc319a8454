# The texts of the dashboard. es.ftl has the same keys; a test compares them.

product = AudioVault relay
skip-to-content = Skip to the content
language = Language
theme = Colours
theme-auto = Automatic
theme-light = Light
theme-dark = Dark
copy = Copy
copied = Copied
save = Save
remove = Remove
actions = Actions
yes = Yes
no = No
never = Never
request-id = Request

nav-label = Main
nav-board = Board
nav-audit = Audit log
nav-operator-events = Operators’ events
nav-users = Users
nav-tokens = API tokens

site = Site
state = State
since = Since
state-up = Up
state-degraded = Degraded
state-down = Down
state-never_seen = Never seen
state-disabled = Disabled
board-none = There are no sites that you may see yet.

login-title = Log in
login = Log in
logout = Log out
user-name = User name
password = Password
login-wrong = The user name or the password is wrong.
login-throttled = Too many attempts. Wait ten seconds, then try again.
login-busy = Too many people are logging in at the moment. Try again.

setup-title = Set up this relay
setup-intro = There is no user yet. The user you create here is an admin with all rights. This page works only once.
setup-submit = Create the first user

new-password = New password
password-rule = 12 characters or more. A few random words are better than one difficult word.
password-again = Repeat the password
current-password = Current password
own-password = Change my password
own-password-hint = All your other sessions end.
password-since = Password set
password-reset = Set a new password

role = Role
role-viewer = Viewer
role-operator = Operator
role-admin = Admin
role-help = Viewers see sites and the audit log; operators also change sites; admins also manage users and tokens, and erase calls.
scope = Sites
scope-all = All sites
scope-sites = Only these sites
scope-names = Names of the sites
scope-none = None
scope-help = Separated by spaces or commas. This user or token cannot see any other site.
playback = May search for recordings and listen to them
playback-short = Playback
rights = Rights

user-add-title = Add a user
user-add = Add the user
user-change-hint = Saving ends all sessions of this user.
user-remove = Remove this user
user-remove-confirm = { $name } can no longer log in, and all their sessions end at once.
last-login = Last login
created = Created

tokens-intro = Programs send a token to the API, in the header Authorization: Bearer.
tokens-openapi = What the API can do (OpenAPI)
tokens-none = There are no API tokens.
token-name = Name
token-owner = Owner
token-add-title = Create an API token
token-add = Create the token
token-made = Copy the token now. It cannot be shown again.
token-days = Valid for (days)
token-days-help = From 1 day to 1 year. The token also ends when its owner is removed.
token-remove-named = Remove the token { $name }
expires = Expires
expired = expired
last-used = Last used

done-user-added = The user is added.
done-user-changed = The user is changed; their sessions have ended.
done-user-removed = The user is removed.
done-password-set = The new password is set; the user's sessions have ended.
done-own-password-set = Your new password is set.
done-token-removed = The token is removed and no longer works.

problem-name = A name has 1 to 64 letters (a to z), digits, dots, hyphens, underscores or @, and starts with a letter or a digit.
problem-password-short = A password must have 12 to 256 characters.
problem-password-guessable = This password is easily guessed. Use a few random words, without names, dates or keyboard patterns.
problem-passwords-differ = The two passwords differ.
problem-current-password = The current password is wrong.
problem-role = Choose a role.
problem-scope = Choose which sites may be seen.
problem-no-sites = Name at least one site.
problem-site-name = One of these is not a valid site name.
problem-unknown-site = One of these sites does not exist.
problem-user-exists = A user with this name already exists.
problem-token-exists = A token with this name already exists.
problem-last-manager = This is the last user who can manage users. Make another user an admin for all sites first.
problem-days = Give a number of days from 1 to 365.

error-not-found = Not found
error-not-found-detail = This page does not exist, or you do not have access to it.
error-forbidden = Not allowed
error-forbidden-detail = Your role does not allow this, or the page was open for too long. Load it again, or ask an admin of this relay.
error-busy = Too many requests
error-internal = Internal error
error-internal-detail = Try again in a moment. The relay's log has details under the number below.
error-request = Invalid request
error-home = Back to the board

# The board.
board-search = Search by name, note, host or version
board-no-match = No site matches.
board-count = { $count ->
    [one] One site
   *[other] { $count } sites
}
filter-state = Filter by state
sort = Order
sort-site = Name
sort-state = State
sort-since = Latest change
sort-searches = Most searches
sort-errors = Most errors
sort-rtt = Longest round trip
sort-newest = Latest recording, oldest first
show = Show
pages = Pages
page-previous = Previous
page-next = Next
agents = Agents
recordings = Recordings
round-trip = Round trip
throughput = Throughput
streams = Streams
searches-hour = Searches, last hour
errors-hour = Errors, last hour
refused-count = { $count ->
    [one] One wrong token or key in the last hour
   *[other] { $count } wrong tokens or keys in the last hour
}
access-second-agent = second agent
access-new-address = new address
access-new-key = new key
access-changes = The agents or keys of this site changed in the last 24 hours. Anyone with a key of the site can run an agent, which then gets the site's search tokens and links. If you do not recognise one of these changes, revoke the key:
access-all = All operators’ events of this site
refused-hour = Refused in the last hour:
refused-tokens = { $count ->
    [one] one search with a wrong token
   *[other] { $count } searches with a wrong token
}
refused-keys = { $count ->
    [one] one agent with a wrong site key
   *[other] { $count } agents with a wrong site key
}
refused-links = { $count ->
    [one] one download by a forged link
   *[other] { $count } downloads by forged links
}
refused-unseen = { $count ->
    [one] one throttled attempt that was not checked
   *[other] { $count } throttled attempts that were not checked
}
throttled = throttled
throttled-since = A client that sends wrong tokens or keys is throttled since
guessed = tokens guessed
guessed-since = Search tokens are being guessed from many addresses, and clients without a recent correct token are throttled, since
newest = newest
newest-ago = newest { $ago } ago
outdated = old version
relay-no-database = The database does not answer. Connected sites keep working; changes are not possible until it answers.
relay-no-journal = The audit log and history cannot be written: check the disk and the database. Playback keeps working.
relay-many = { $count ->
    [one] One relay uses this database:
   *[other] { $count } relays share this database:
}
relay-here = this one
relay-unwell = cannot read or write the database
relay-lost = { $count ->
    [one] One entry of the audit log or history was lost since the relay started.
   *[other] { $count } entries of the audit log or history were lost since the relay started.
}

# A site.
site-add = Add a site
site-name = Name
site-name-help = Lower-case letters, digits and hyphens, such as acme-madrid. It is part of addresses and cannot be changed.
site-open = Open the site
site-added = { $site } is added
note = Note
names = Names
aliases = Aliases
aliases-help = Other names that QueueMetrics uses for the site, such as its tenants; separated by spaces.
alias-new = New alias
alias-remove = Remove the alias { $alias }
add = Add
tenants-of-agent = Tenants of its agents:
secrets = Secrets
secrets-once = Copy these now. They cannot be shown again.
site-key = Site key
search-token = Search token
search-token-here = the-search-token
agent-command = Agent
agent-command-help = Run this as root on the machine with the recordings. Change the path to the one of your PBX.
agent-start-help = This starts an agent whose site key and search token are already in their files. When you create a new key, you get a command that writes its file.
queuemetrics-block = QueueMetrics
queuemetrics-help = Add this to configuration.properties.
keys = Site keys
key-rotate = Create a new key
key-overlap = The previous key stays valid until it is revoked or another key is created.
key-added = A new key for { $site }
key-dropped = The key { $id } is no longer valid.
key-revoke-named = Revoke the key { $id }
revoke = Revoke
revoked = revoked
enrolment = Enrolment
enrolment-help = The agent trades a short code, once, for a new site key, which it writes to its file. You can give the code by phone.
enrol = Enrol an agent
problem-enrol-no-room = Two keys are valid already. Revoke the one that the agents do not use, then an agent can be enrolled.
problem-enrol-disabled = The site is disabled. Enable it, then an agent can be enrolled.
enrolment-code = Code
code-added = Enrol an agent of { $site }
code-once = It works once, and replaces earlier codes that were not used.
code-made = Code created
made-by = By
command-line = the command line
valid-until = Valid until
key-handed-out = Key handed out
install-command-help = Run this as root on the machine with the recordings.
uptime = Connected
uptime-day = Last 24 hours
uptime-week = Last 7 days
traffic = Traffic
traffic-month = Delivered this month
searches-month = Searches this month
errors-month = Errors this month
agents-none = No agent is connected.
host = Host
version = Version
address = Address
leaving = leaving
recordings-count = { $count ->
    [one] One recording
   *[other] { $count } recordings
}
timeline = Tunnels
timeline-none = No agent has connected yet.
connected = Connected
disconnected = Disconnected
lived = Duration
reason = Reason
service = Service
site-disable = Disable the site
site-enable = Enable the site
site-disable-help = A disabled site refuses its agents and searches, until it is enabled again.
site-remove = Remove the site
site-remove-help = Its aliases, keys and history are deleted. The audit log keeps its entries.
site-remove-named = Remove { $site } permanently
try-it = Try it
try-it-help = Searches and plays through the public address, as QueueMetrics does. The token is not stored.
try-none = No recordings were found.
try-incomplete = Some directories of recordings could not be searched.
try-failed = This browser cannot reach the relay's public address.
try-needs-script = This needs JavaScript.
call-id = Call id
search = Search
speed = Speed

# The audit log.
audit-intro = All searches and deliveries, with time and client. Delivered means that the relay's operating system accepted the data for sending; it does not prove that someone listened.
audit-none = No events match.
audit-kind = Kind
kind-search = Search
kind-delivery = Delivery
kind-suppressed = Refused, without rows
audit-suppressed = { $count ->
    [one] one more refused request
   *[other] { $count } more refused requests
}
any = Any
outcome = Outcome
outcome-complete = Complete
outcome-left = Client left
outcome-cut = Cut
outcome-refused = Refused
outcome-open = Running, or end unknown
tenant = Tenant
qm-user = QueueMetrics user
client = Client
from = From (UTC)
until = Until (UTC)
export-csv = Export as CSV
when = When
recording = Recording
delivered = Delivered
sound = Sound
older = Older
audit-found = { $count ->
    [0] nothing found
    [one] one recording found
   *[other] { $count } recordings found
}
audit-at-least = at least { $size }
audit-from-byte = { $size } from byte { $start } on
audit-erase = Erase a call
audit-erase-help = All data of this call is removed from the database, its write-ahead log and all later backups.
audit-erase-do = Erase permanently

# Operators’ events.
events-intro = Who changed what, and who read the audit log. No page or command can delete these events; the relay deletes them after their retention time.
actor = By
owned-by = token of { $name }
subject = Subject
before = Before
after = After
actor-user = user
actor-token = API token
actor-command_line = command line
actor-setup_link = set-up link
actor-agent = agent
actor-unknown = not logged in
action-site-added = Site added
action-site-removed = Site removed
action-site-disabled = Site disabled
action-site-enabled = Site enabled
action-site-alias_added = Alias added
action-site-alias_removed = Alias removed
action-site-key_added = Site key created
action-site-key_revoked = Site key revoked
action-site-code_made = Enrolment code created
action-site-key_enrolled = Site key handed out by enrolment
action-agent-added = Another agent connected
action-agent-new_address = Agent connected from a new address
action-user-added = User added
action-user-changed = Rights of a user changed
action-user-password_set = Password set
action-user-removed = User removed
action-user-logged_in = Login
action-login-locked_out = Too many attempts to log in
action-token-added = API token created
action-token-removed = API token removed
action-audit-read = Audit log read
action-audit-exported = Audit log exported
action-audit-erased = Call erased from the audit log
action-operator_events-read = Operators’ events read
action-operator_events-exported = Operators’ events exported
action-database-backed_up = Database copied
action-database-imported = Database imported

done-site-removed = The site is removed.
done-site-disabled = The site is disabled.
done-site-enabled = The site is enabled.
done-key-revoked = The key is revoked; tunnels that use it are closed.
done-alias-added = The alias is added.
done-alias-removed = The alias is removed.
done-call-erased = All data of the call was erased.

problem-filter = One of the filters is not valid.
problem-time = Write a time like 2026-11-23T08:00.
