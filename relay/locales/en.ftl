# The words of the operators' pages. es.ftl has the same keys; a test compares them.

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
nav-audit = Audit
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
setup-intro = There is no user yet. The one you make here is an admin and may do everything. This page works once.
setup-submit = Make the first user

new-password = New password
password-rule = 12 characters or more. A few random words are better than one difficult word.
password-again = The same once more
current-password = Current password
own-password = Change my password
own-password-hint = All your other sessions end.
password-since = Password set
password-reset = Set a new password

role = Role
role-viewer = Viewer
role-operator = Operator
role-admin = Admin
role-help = Viewers look at sites and audit; operators also change sites; admins also manage users, tokens and erasure.
scope = Sites
scope-all = All sites
scope-sites = Only these sites
scope-names = Names of the sites
scope-none = None
scope-help = Separated by blanks or commas. All other sites do not exist for this user or token.
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

tokens-intro = Programs use the API with a token, as Authorization: Bearer.
tokens-openapi = What the API can do (OpenAPI)
tokens-none = There are no API tokens.
token-name = Name
token-add-title = Make an API token
token-add = Make the token
token-made = Copy the token now. It is shown this once and kept nowhere.
token-days = Valid for (days)
token-days-help = Empty: until it is removed.
token-remove-named = Remove the token { $name }
expires = Ends
expired = ended
last-used = Last used

done-user-added = The user is added.
done-user-changed = The user is changed; their sessions have ended.
done-user-removed = The user is removed.
done-password-set = The new password is set; the user's sessions have ended.
done-own-password-set = Your new password is set.
done-token-removed = The token is removed and no longer works.

problem-name = A name has 1 to 64 letters (a to z), digits, dots, hyphens, underscores or @, and starts with a letter or a digit.
problem-password-short = A password needs 12 characters or more.
problem-passwords-differ = The two passwords differ.
problem-current-password = The current password is wrong.
problem-role = Choose a role.
problem-scope = Choose which sites may be seen.
problem-no-sites = Name at least one site.
problem-site-name = One of these is not the name of a site.
problem-unknown-site = There is no site of one of these names.
problem-user-exists = There is a user of this name already.
problem-token-exists = There is a token of this name already.
problem-last-manager = This is the last one who manages users. Make another user an admin for all sites first.
problem-days = Give a number of days from 1 to 3650, or nothing.

error-not-found = Not found
error-not-found-detail = There is nothing at this address, or nothing that you may see.
error-forbidden = Not allowed
error-forbidden-detail = Your role does not allow this, or the page was open for too long. Load it again, or ask an admin of this relay.
error-busy = Too many requests
error-internal = The relay has failed
error-internal-detail = Try again in a moment. The log of the relay tells more, under the number below.
error-request = The request makes no sense
error-home = Back to the board
