# Los textos de las páginas. Las claves son las de en.ftl; una prueba las compara.

product = Relay de AudioVault
skip-to-content = Ir al contenido
language = Idioma
theme = Colores
theme-auto = Automático
theme-light = Claro
theme-dark = Oscuro
copy = Copiar
copied = Copiado
save = Guardar
remove = Eliminar
actions = Acciones
yes = Sí
no = No
never = Nunca
request-id = Petición

nav-label = Principal
nav-board = Panel
nav-audit = Auditoría
nav-users = Usuarios
nav-tokens = Tokens de API

site = Sede
state = Estado
since = Desde
state-up = En línea
state-degraded = Degradada
state-down = Caída
state-never_seen = Nunca vista
state-disabled = Desactivada
board-none = Todavía no hay ninguna sede que pueda ver.

login-title = Iniciar sesión
login = Entrar
logout = Cerrar sesión
user-name = Usuario
password = Contraseña
login-wrong = El usuario o la contraseña no son correctos.
login-throttled = Demasiados intentos. Espere diez segundos y vuelva a intentarlo.
login-busy = En este momento están entrando demasiadas personas. Vuelva a intentarlo.

setup-title = Configurar este relay
setup-intro = Todavía no hay usuarios. El que cree aquí será administrador y podrá hacerlo todo. Esta página solo funciona una vez.
setup-submit = Crear el primer usuario

new-password = Contraseña nueva
password-rule = 12 caracteres o más. Unas cuantas palabras al azar son mejores que una sola palabra difícil.
password-again = Repita la contraseña
current-password = Contraseña actual
own-password = Cambiar mi contraseña
own-password-hint = Se cerrarán todas sus demás sesiones.
password-since = Contraseña establecida
password-reset = Establecer una contraseña nueva

role = Rol
role-viewer = Consulta
role-operator = Operador
role-admin = Administrador
role-help = Consulta ve las sedes y la auditoría; el operador además modifica las sedes; el administrador además gestiona usuarios, tokens y borrados.
scope = Sedes
scope-all = Todas las sedes
scope-sites = Solo estas sedes
scope-names = Nombres de las sedes
scope-none = Ninguna
scope-help = Separados por espacios o comas. Las demás sedes no existen para este usuario o token.
playback = Puede buscar grabaciones y escucharlas
playback-short = Escucha
rights = Permisos

user-add-title = Añadir un usuario
user-add = Añadir el usuario
user-change-hint = Al guardar se cierran todas las sesiones de este usuario.
user-remove = Eliminar este usuario
user-remove-confirm = { $name } ya no podrá entrar y todas sus sesiones se cerrarán de inmediato.
last-login = Último acceso
created = Creado

tokens-intro = Los programas usan la API con un token, como Authorization: Bearer.
tokens-openapi = Qué ofrece la API (OpenAPI)
tokens-none = No hay tokens de API.
token-name = Nombre
token-add-title = Crear un token de API
token-add = Crear el token
token-made = Copie el token ahora. Solo se muestra esta vez y no se guarda en ningún sitio.
token-days = Validez (días)
token-days-help = Vacío: hasta que se elimine.
token-remove-named = Eliminar el token { $name }
expires = Caduca
expired = caducado
last-used = Último uso

done-user-added = El usuario se ha añadido.
done-user-changed = El usuario se ha modificado y sus sesiones se han cerrado.
done-user-removed = El usuario se ha eliminado.
done-password-set = La contraseña nueva está establecida y las sesiones del usuario se han cerrado.
done-own-password-set = Su contraseña nueva está establecida.
done-token-removed = El token se ha eliminado y ya no funciona.

problem-name = Un nombre tiene de 1 a 64 letras (de la a a la z, sin tildes), cifras, puntos, guiones, guiones bajos o @, y empieza por una letra o una cifra.
problem-password-short = La contraseña debe tener 12 caracteres o más.
problem-passwords-differ = Las dos contraseñas no coinciden.
problem-current-password = La contraseña actual no es correcta.
problem-role = Elija un rol.
problem-scope = Elija qué sedes se pueden ver.
problem-no-sites = Indique al menos una sede.
problem-site-name = Alguno de estos no es el nombre de una sede.
problem-unknown-site = No existe ninguna sede con alguno de estos nombres.
problem-user-exists = Ya existe un usuario con este nombre.
problem-token-exists = Ya existe un token con este nombre.
problem-last-manager = Es el último que gestiona usuarios. Antes, haga a otro usuario administrador de todas las sedes.
problem-days = Indique un número de días de 1 a 3650, o nada.

error-not-found = No encontrado
error-not-found-detail = En esta dirección no hay nada, o nada que usted pueda ver.
error-forbidden = No permitido
error-forbidden-detail = Su rol no lo permite, o la página llevaba demasiado tiempo abierta. Vuelva a cargarla o pregunte a un administrador de este relay.
error-busy = Demasiadas peticiones
error-internal = El relay ha fallado
error-internal-detail = Vuelva a intentarlo dentro de un momento. El registro del relay explica más, con el número de abajo.
error-request = La petición no es válida
error-home = Volver al panel
