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
nav-audit = Registro de auditoría
nav-operator-events = Actos de operadores
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
setup-intro = Todavía no hay usuarios. El que cree aquí será administrador y tendrá todos los permisos. Esta página solo funciona una vez.
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
role-help = Consulta ve las sedes y el registro de auditoría; el operador además modifica las sedes; el administrador además gestiona usuarios y tokens, y borra llamadas.
scope = Sedes
scope-all = Todas las sedes
scope-sites = Solo estas sedes
scope-names = Nombres de las sedes
scope-none = Ninguna
scope-help = Separados por espacios o comas. Este usuario o token no puede ver ninguna otra sede.
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

tokens-intro = Los programas envían un token a la API, en la cabecera Authorization: Bearer.
tokens-openapi = Qué ofrece la API (OpenAPI)
tokens-none = No hay tokens de API.
token-name = Nombre
token-owner = Propietario
token-add-title = Crear un token de API
token-add = Crear el token
token-made = Copie el token ahora. No se puede volver a mostrar.
token-days = Validez (días)
token-days-help = De 1 día a 1 año. El token también termina cuando se elimina a su propietario.
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
problem-password-short = La contraseña debe tener entre 12 y 256 caracteres.
problem-password-guessable = Esta contraseña se adivina fácilmente. Use unas pocas palabras al azar, sin nombres, fechas ni secuencias del teclado.
problem-passwords-differ = Las dos contraseñas no coinciden.
problem-current-password = La contraseña actual no es correcta.
problem-role = Elija un rol.
problem-scope = Elija qué sedes se pueden ver.
problem-no-sites = Indique al menos una sede.
problem-site-name = Alguno de estos no es un nombre de sede válido.
problem-unknown-site = Alguna de estas sedes no existe.
problem-user-exists = Ya existe un usuario con este nombre.
problem-token-exists = Ya existe un token con este nombre.
problem-last-manager = Es el último usuario que puede gestionar usuarios. Antes, haga a otro usuario administrador de todas las sedes.
problem-days = Indique un número de días de 1 a 365.

error-not-found = No encontrado
error-not-found-detail = Esta página no existe, o usted no tiene acceso a ella.
error-forbidden = No permitido
error-forbidden-detail = Su rol no lo permite, o la página llevaba demasiado tiempo abierta. Vuelva a cargarla o pregunte a un administrador de este relay.
error-busy = Demasiadas peticiones
error-internal = Error interno
error-internal-detail = Vuelva a intentarlo dentro de un momento. El registro del relay tiene los detalles, con el número de abajo.
error-request = La petición no es válida
error-home = Volver al panel

# El tablero.
board-search = Buscar por nombre, nota, equipo o versión
board-no-match = Ninguna sede coincide.
board-count = { $count ->
    [one] Una sede
   *[other] { $count } sedes
}
filter-state = Filtrar por estado
sort = Orden
sort-site = Nombre
sort-state = Estado
sort-since = Último cambio
sort-searches = Más búsquedas
sort-errors = Más errores
sort-rtt = Mayor tiempo de ida y vuelta
sort-newest = Última grabación, la más antigua primero
show = Mostrar
pages = Páginas
page-previous = Anterior
page-next = Siguiente
agents = Agentes
recordings = Grabaciones
round-trip = Ida y vuelta
throughput = Caudal
streams = Flujos
searches-hour = Búsquedas, última hora
errors-hour = Errores, última hora
refused-count = { $count ->
    [one] Un token o clave incorrectos en la última hora
   *[other] { $count } tokens o claves incorrectos en la última hora
}
access-second-agent = segundo agente
access-new-address = dirección nueva
access-new-key = clave nueva
access-changes = En las últimas 24 horas han cambiado los agentes o las claves de esta sede. Cualquiera que tenga una clave de la sede puede ejecutar un agente, que recibe los tokens de búsqueda y los enlaces de la sede. Si no reconoce alguno de estos cambios, revoque la clave:
access-all = Todos los actos de operadores de esta sede
refused-hour = Rechazado en la última hora:
refused-tokens = { $count ->
    [one] una búsqueda con un token incorrecto
   *[other] { $count } búsquedas con un token incorrecto
}
refused-keys = { $count ->
    [one] un agente con una clave de sede incorrecta
   *[other] { $count } agentes con una clave de sede incorrecta
}
refused-links = { $count ->
    [one] una descarga con un enlace falsificado
   *[other] { $count } descargas con enlaces falsificados
}
refused-unseen = { $count ->
    [one] un intento frenado que no se comprobó
   *[other] { $count } intentos frenados que no se comprobaron
}
throttled = frenado
throttled-since = Se frena a un cliente que envía tokens o claves incorrectos desde
guessed = tokens adivinados
guessed-since = Se intentan adivinar tokens de búsqueda desde muchas direcciones, y se frena a los clientes sin un token correcto reciente, desde
newest = la más reciente
newest-ago = la más reciente hace { $ago }
outdated = versión antigua
relay-no-database = La base de datos no responde. Las sedes conectadas siguen funcionando; no se pueden hacer cambios hasta que responda.
relay-no-journal = No se pueden escribir el registro de auditoría ni el historial: revise el disco y la base de datos. La reproducción continúa.
relay-many = { $count ->
    [one] Un relay usa esta base de datos:
   *[other] { $count } relays comparten esta base de datos:
}
relay-here = este
relay-unwell = no puede leer o escribir la base de datos
relay-lost = { $count ->
    [one] Se ha perdido una entrada del registro de auditoría o del historial desde que arrancó el relay.
   *[other] Se han perdido { $count } entradas del registro de auditoría o del historial desde que arrancó el relay.
}

# Una sede.
site-add = Añadir una sede
site-name = Nombre
site-name-help = Letras minúsculas, cifras y guiones, como acme-madrid. Forma parte de las direcciones y no se puede cambiar.
site-open = Abrir la sede
site-added = Se ha añadido { $site }
note = Nota
names = Nombres
aliases = Alias
aliases-help = Otros nombres que QueueMetrics usa para la sede, como sus inquilinos; separados por espacios.
alias-new = Alias nuevo
alias-remove = Quitar el alias { $alias }
add = Añadir
tenants-of-agent = Inquilinos de sus agentes:
secrets = Secretos
secrets-once = Cópielos ahora. No se pueden volver a mostrar.
site-key = Clave de la sede
search-token = Token de búsqueda
search-token-here = el-token-de-búsqueda
agent-command = Agente
agent-command-help = Ejecútelo como root en la máquina de las grabaciones. Cambie la ruta por la de su centralita.
agent-start-help = Arranca un agente cuya clave y token de búsqueda ya están en sus ficheros. Al crear una clave nueva se muestra la orden que escribe su fichero.
queuemetrics-block = QueueMetrics
queuemetrics-help = Añádalo a configuration.properties.
keys = Claves de la sede
key-rotate = Crear una clave nueva
key-overlap = La clave anterior sigue siendo válida hasta que se revoque o se cree otra clave.
key-added = Una clave nueva para { $site }
key-dropped = La clave { $id } ya no es válida.
key-revoke-named = Revocar la clave { $id }
revoke = Revocar
revoked = revocada
enrolment = Alta de agentes
enrolment-help = El agente cambia un código corto, una sola vez, por una clave nueva, que escribe en su fichero. El código se puede dictar por teléfono.
enrol = Dar de alta un agente
problem-enrol-no-room = Ya hay dos claves válidas. Revoque la que los agentes no usan; después se podrá dar de alta un agente.
problem-enrol-disabled = La sede está desactivada. Actívela; después se podrá dar de alta un agente.
enrolment-code = Código
code-added = Dar de alta un agente de { $site }
code-once = Funciona una sola vez y sustituye a los códigos anteriores que no se han usado.
code-made = Código creado
made-by = Por
command-line = la línea de órdenes
valid-until = Válido hasta
key-handed-out = Clave entregada
install-command-help = Ejecútelo como root en la máquina de las grabaciones.
uptime = Conectado
uptime-day = Últimas 24 horas
uptime-week = Últimos 7 días
traffic = Tráfico
traffic-month = Entregado este mes
searches-month = Búsquedas este mes
errors-month = Errores este mes
agents-none = No hay ningún agente conectado.
host = Equipo
version = Versión
address = Dirección
leaving = saliendo
recordings-count = { $count ->
    [one] Una grabación
   *[other] { $count } grabaciones
}
timeline = Túneles
timeline-none = Todavía no se ha conectado ningún agente.
connected = Conexión
disconnected = Desconexión
lived = Duración
reason = Motivo
service = Servicio
site-disable = Desactivar la sede
site-enable = Activar la sede
site-disable-help = Una sede desactivada rechaza a sus agentes y las búsquedas hasta que se vuelva a activar.
site-remove = Eliminar la sede
site-remove-help = Se borran sus alias, sus claves y su historial. El registro de auditoría conserva sus entradas.
site-remove-named = Eliminar { $site } definitivamente
try-it = Pruébelo
try-it-help = Busca y reproduce por la dirección pública, como lo hace QueueMetrics. El token no se guarda.
try-none = No se ha encontrado ninguna grabación.
try-incomplete = No se ha podido buscar en todos los directorios de grabaciones.
try-failed = Este navegador no llega a la dirección pública del relay.
try-needs-script = Para esto hace falta JavaScript.
call-id = Id. de llamada
search = Buscar
speed = Velocidad

# La auditoría.
audit-intro = Todas las búsquedas y entregas, con hora y cliente. Entregado quiere decir que el sistema operativo del relay aceptó los datos para enviarlos; no prueba que alguien escuchara.
audit-none = Ningún evento coincide.
audit-kind = Tipo
kind-search = Búsqueda
kind-delivery = Entrega
kind-suppressed = Rechazado, sin filas
audit-suppressed = { $count ->
    [one] una solicitud rechazada más
   *[other] { $count } solicitudes rechazadas más
}
any = Todo
outcome = Resultado
outcome-complete = Completo
outcome-left = El cliente se fue
outcome-cut = Cortado
outcome-refused = Rechazado
outcome-open = En curso, o final desconocido
tenant = Inquilino
qm-user = Usuario de QueueMetrics
client = Cliente
from = Desde (UTC)
until = Hasta (UTC)
export-csv = Exportar como CSV
when = Cuándo
recording = Grabación
delivered = Entregado
sound = Sonido
older = Anteriores
audit-found = { $count ->
    [0] no se encontró nada
    [one] se encontró una grabación
   *[other] se encontraron { $count } grabaciones
}
audit-at-least = al menos { $size }
audit-from-byte = { $size } desde el byte { $start }
audit-erase = Borrar una llamada
audit-erase-help = Se eliminan todos los datos de esta llamada de la base de datos, de su registro de escritura anticipada y de todas las copias de seguridad posteriores.
audit-erase-do = Borrar definitivamente

# Los actos de los operadores.
events-intro = Quién cambió qué y quién consultó el registro de auditoría. Ninguna página ni orden puede borrar estos actos; el relay los borra cuando termina su plazo de conservación.
actor = Por
owned-by = token de { $name }
subject = Objeto
before = Antes
after = Después
actor-user = usuario
actor-token = token de API
actor-command_line = línea de órdenes
actor-setup_link = enlace de instalación
actor-agent = agente
actor-unknown = sin iniciar sesión
action-site-added = Sede añadida
action-site-removed = Sede eliminada
action-site-disabled = Sede desactivada
action-site-enabled = Sede activada
action-site-alias_added = Alias añadido
action-site-alias_removed = Alias eliminado
action-site-key_added = Clave de sede creada
action-site-key_revoked = Clave de sede revocada
action-site-code_made = Código de alta creado
action-site-key_enrolled = Clave de sede entregada por código
action-agent-added = Otro agente conectado
action-agent-new_address = Agente conectado desde una dirección nueva
action-user-added = Usuario añadido
action-user-changed = Permisos de usuario modificados
action-user-password_set = Contraseña establecida
action-user-removed = Usuario eliminado
action-user-logged_in = Inicio de sesión
action-login-locked_out = Demasiados intentos de inicio de sesión
action-token-added = Token de API creado
action-token-removed = Token de API eliminado
action-audit-read = Registro de auditoría consultado
action-audit-exported = Registro de auditoría exportado
action-audit-erased = Llamada borrada del registro de auditoría
action-operator_events-read = Actos de operadores consultados
action-operator_events-exported = Actos de operadores exportados
action-database-backed_up = Base de datos copiada
action-database-imported = Base de datos importada

done-site-removed = La sede se ha eliminado.
done-site-disabled = La sede está desactivada.
done-site-enabled = La sede está activada.
done-key-revoked = La clave está revocada; se cierran los túneles que la usan.
done-alias-added = El alias se ha añadido.
done-alias-removed = El alias se ha quitado.
done-call-erased = Se han borrado todos los datos de la llamada.

problem-filter = Uno de los filtros no es válido.
problem-time = Escriba la hora así: 2026-11-23T08:00.
